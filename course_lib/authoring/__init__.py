"""What authors run: bring text and notebook in step, execute and compare chapters, publish, open JupyterLab.

The chapters themselves import nothing from here; what they need is in `course_lib.notebook`.
"""
