"""The real verl V1 trainer on a CPU, on one or more gloo ranks, with a tiny model: a mistake shows in minutes.

python -m fipo.integrations.verl.rehearsal --folder /tmp/rehearsal --ranks 2 [verl's overrides]

    __main__.py      the command; `rehearse` is the function
    overrides.py     every key that a rehearsal changes, as a table
    materials.py     the tiny model and its problems in verl's format
    platform.py      a CPU as verl's platform
    registration.py  the rollout engine under its name, FSDP for the CPU
    rollout.py       a rollout engine that decodes with transformers
    worker.py        verl's training worker over gloo, the trainer and the task runner

It is loaded into verl's processes by VERL_PLATFORM=cpu.
"""
