"""The commands beside `bench` itself, one a file."""
