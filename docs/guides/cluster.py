"""The score of a search, computed by the workers of a Dask cluster."""

import time

from distributed import Client, LocalCluster

import lso


def simulation(images):
    """Takes a list of one image (or of `chunk` of them) and gives as many values; imagine minutes in place of 0.1 s."""
    time.sleep(0.1 * len(images))
    return [-float(abs(image - image[..., ::-1]).mean()) for image in images]


if __name__ == "__main__":  # the processes of a LocalCluster import this file
    run = lso.train("ne-vae-se", task="digits", epochs=15, latent_dim=8, out="runs/digits")
    decoder = lso.Decoder(lso.load(run))
    space = lso.LatentSpace(decoder.latent_dim, codes=run.codes())
    objective = lso.LatentObjective(decoder, simulation, space=space, on="objects", maximize=True)

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,  # on a cluster that runs already: Client("tcp://scheduler:8786")
    ):
        executor = client.get_executor(pure=False)
        result = lso.optimize(objective, "turbo", budget=24, batch=4, executor=executor, out="runs/cluster")
    print(result)
    print("calls without a value:", result.counters["failed"], "report:", result.report("runs/cluster"))
