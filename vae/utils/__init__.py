"""What every room uses: files and locks, random streams, checks of values, integrity of files."""
