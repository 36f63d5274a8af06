"""Why does activation space have plateaus, and do they tell us about features?"""
