"""What the commands stand on: the application, common options, and who answers."""
