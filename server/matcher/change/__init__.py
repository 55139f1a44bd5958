"""Changes of a gallery: enrol, erase, bulk, and rotation to a new key."""
