"""Reads api/*.json and writes what follows from them. See api/README.md for the format."""
