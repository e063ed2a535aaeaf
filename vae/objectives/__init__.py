"""What a training minimizes: the ELBO's family, re-encoding penalties, schedules of the KL weight."""
