"""What is published: how it is built, what it must be, that it runs, and that anyone can build the same bytes."""
