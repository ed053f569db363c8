"""What every other package stands on: pointers that cross the border, and threads."""
