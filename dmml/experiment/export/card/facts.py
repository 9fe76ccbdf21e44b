Facts=None
def read_facts(m): pass
