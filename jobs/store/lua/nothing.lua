-- Does nothing. Its reply comes when the pipeline's other conditions are met: see ScriptPipeline.
-- Reply: 1
return 1
