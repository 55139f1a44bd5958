"""A matcher follows the others: it takes, in the background, the changes in which its organisation had no part."""
