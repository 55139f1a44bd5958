"""Key shares: how they are made, handed out and refreshed, and what certifies a device."""
