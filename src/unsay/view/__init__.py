"""A local page over all runs below a folder (`unsay view`): `found` reads what runs write anyway, `app` serves it to who has its address.
Shown are numbers, names and the reports; a vault is never shown.
"""
