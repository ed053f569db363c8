"""What is measured, one piece of work per file."""
