"""A schedule for clusters without Kubernetes: a cron expression starts one idempotent command, and a file remembers.

    times    when: cron expression and zone, right at clock changes
    due      what is to be done now: run, resume, or record as missed (pure)
    ledger   what was done: SQLite in a folder, which survives kill -9
    lock     one run of a schedule at a time, kept by the kernel
    attempt  the process around one run: log, signals, exit code
    server   the loop that waits and starts
    exports  the same schedule for Kubernetes, Airflow, cron, systemd

Nothing here loads Ray: the command that is started does.
"""
