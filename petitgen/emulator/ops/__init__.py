"""What each instruction does, by family. registry.py states the conventions."""
