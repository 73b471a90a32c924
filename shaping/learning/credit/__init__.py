"""From finished episodes to advantages: returns, costs, credit of interventions, the critic."""
