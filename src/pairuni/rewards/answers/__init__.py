"""Whether a reply gives the true answer: 1 or 0. The rules and their reasons are in docs/answers.md.

reply -> final_answer   what remains without reasoning, tags, boxes and LaTeX text commands
      -> claims         what it states as its answer, without what it denies
      -> options        letters, for a question with options
         words          else as words, alone or in a sentence that repeats the question
         yes_no         as yes, no or none
         quantities     as a number with its unit, label or bound (tokens -> numbers, units)
         formulas       as a formula, by math-verify in a child process
      -> accuracy       1 if one of them gives the true answer, else 0
"""
