"""Jobs: from a file of keys to a published output.

`spec` reads a job file, `plan` says what it will cost, `run` carries it out: fit, label
(`labelling`), report (`report`), publish. `algorithms` is the registry of what a job can
name. The command line in `distclust.cli` adds a screen and exit codes.
"""
