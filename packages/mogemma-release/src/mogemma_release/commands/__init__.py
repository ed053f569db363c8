"""The commands of `release`, one file each."""
