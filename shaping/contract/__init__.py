"""Do plug-ins keep their contracts? Each is tried on scripted episodes, one result per rule (worlds: `envs.check`)."""
