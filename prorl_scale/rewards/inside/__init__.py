"""What runs inside the sandbox.  Of our code it may import this folder and `prorl_lab.scoring`, and nothing else."""
