"""Models of the papers' architectures, cut in depth, and files like those from upstream: the papers' study offline.

`python tests/stand_ins/project.py FOLDER` makes a copy of the project with both, in which `config/paper.yaml` runs.
"""
