"""Front: the curves of a sweep → what each method reaches, the trade between forgetting and usefulness. Loads no model.

A *point* is one configuration at one checkpoint, the mean over the seeds that got there. All axes run from 0 to 1, higher is better. A
method's *front* is its points that none of its others beats on both axes; its *hypervolume* is the area that they dominate, from (0, 0)
(Zitzler & Thiele 1999). `curves` reads, `counted` leaves out, `area` measures, `trade` compares, `pictures` draws. docs/front.md says more.
"""
