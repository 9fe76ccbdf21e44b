def tripod_table(*a): pass
