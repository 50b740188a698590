"""Commands of `smartswitch` that come in groups; b2bua/__main__.py has the others, and puts all together."""
