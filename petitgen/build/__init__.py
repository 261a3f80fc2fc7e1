"""Spec to code objects: render, compile in parallel, check what was made, and write it as one whole.

run.py      the build from end to end
objects.py  compiled objects by content hash
describe.py a code object joined with its spec: manifest entry, or refusal
output.py   the directory: lock, temporary files, renames, manifest last
state.py    what is built and verified
"""
