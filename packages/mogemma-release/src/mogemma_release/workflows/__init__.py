"""GitHub's workflows, held to the definition of a release in matrix.py and to what no workflow may lack.

What GitHub's own syntax asks, and what is dangerous in any repository, actionlint and zizmor say (tools/lint_workflows.py).
"""
