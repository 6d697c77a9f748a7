"""A party that waits for approved jobs and runs them, and its page for people who do not type commands.

states      what is known of each job, in the home's database
turns       which of several jobs that wait all parties try at the same time
supervisor  one process for each run, started, watched, and started again
events      what happened, as JSON lines of a fixed set of fields
metrics     the same for Prometheus
page        the web page
"""
