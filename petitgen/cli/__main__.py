"""python -m petitgen.cli"""

from petitgen.cli import main

main(prog_name="petitgen")
