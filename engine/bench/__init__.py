"""`engine bench`: what this machine does in a second, stage by stage and from answer to import."""
