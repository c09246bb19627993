"""What the DAG runs: checks before anything starts, and the steps."""
