"""What both drivers share and is not mathematics: tasks, the laptop model, run folders, figures, the command line."""
