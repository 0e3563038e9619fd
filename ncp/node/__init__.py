"""The node agent: realises the intent on this node's switch, and answers the CNI plugin."""
