"""The service killed, starved, lied to and cut off at random, and what it wrote compared with an undisturbed run."""
