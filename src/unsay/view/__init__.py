"""A local page over all runs below a folder (`unsay view`): `below` reads what runs write anyway, `app` serves it to whoever has its
address. Shown are numbers, names and the reports; a vault is never shown.
"""
