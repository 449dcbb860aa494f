"""What runs inside the sandbox.  It may not import from the folder above, which does not exist there."""
