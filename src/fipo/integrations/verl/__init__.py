"""FIPO in an unmodified, pip-installed verl: `pip install ".[verl]"`.

    plugin.py       the entry point that verl loads in every process: registers the policy loss `future_kl`
    compat.py       is this the verl that we know? Says which name changed
    knobs.py        our keys of a job, without verl: what they mean, and verl's names beside ours
    config.py       verl's options of the loss, `actor_rollout_ref.actor.policy_loss`, with those keys
    policy_loss.py  the function that verl calls
    checks.py       which engines and attention kernels give the loss whole sequences
    loss.py         verl's whole loss with our metrics, each with its own reduction
    metrics.py      typed metrics of ours as verl's
    credit.py       per-token credit of sampled sequences as JSON lines
    v1.py           verl's trainers with that whole loss
    main.py         `python -m fipo.integrations.verl.main <verl's overrides>`
    reward.py       our graders as verl's custom reward function
    rehearsal/      the same trainer on a CPU, with a tiny model
    launch/         `fipo launch`: a recipe becomes a job; it imports no verl either

Importing this package imports nothing of verl.
"""
