def model_card(*a): pass
