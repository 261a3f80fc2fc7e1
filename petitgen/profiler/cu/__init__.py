"""The simulation of one CU, in compiled loops that share plain arrays.

columns   what stands where in the arrays          compiled  how the loops are compiled and kept
issue     whether an instruction may go, and what it takes
memory    L1, the servers beyond it, LDS           waves     start, branches, barriers, end, the next workgroup
account   issues, stalls and the timeline          simulate  the slots of the SIMDs; run()
"""
