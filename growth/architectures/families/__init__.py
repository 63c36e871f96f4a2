"""The declared families, one file each. Every `Architecture` bound to a public name here is known
(`growth.architectures.registry`)."""
