"""Tests of published claims, one folder per claim, and the commands, one file per command."""

import sys

# While Python looks for the module that `-m` names, this word stands for it. Only then the current folder is
# the first to be searched, and a module of the user's there could hide a package of the lab.
if sys.argv[:1] == ["-m"]:
    from covlab.launch.import_path import search_here_last

    search_here_last()
