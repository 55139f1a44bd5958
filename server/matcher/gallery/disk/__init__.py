"""The galleries of one matcher on disk: gallery.db, from its tables to what is read and written of it."""
