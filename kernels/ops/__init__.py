"""The steps of `exact-1`, one per file: a torch definition beside a fast host kernel that gives the same bits."""
