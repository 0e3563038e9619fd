"""OpenFlow 1.5 to one switch: packing, reading back, atomic bundles. The only package that imports os-ken."""
