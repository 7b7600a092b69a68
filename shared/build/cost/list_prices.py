"""The list prices that are shipped: US dollars, without discounts, and without free tiers.

    what                                            from                                            of
    e2, n1, n2, n2d, t2a, t2d, c2, c2d, c3, c3d     Cloud Billing Catalog API, by pricing.yml (1)   2025-03-06
    e2-micro, e2-small, e2-medium                   the same: parts of a vCPU and memory of e2 (1)  2025-03-06
    Spot VMs                                        the same; they change each month                2025-03-06
    pd-standard, pd-balanced, pd-ssd,
    hyperdisk-extreme, objects                      the same                                        2025-03-06
    pd-standard, pd-ssd in us-central1              Google's page of disk prices (2): the same      undated copy
    objects in us-central1                          Google's page of Cloud Storage (3): the same    2026-09-20
    invocations                                     Google's page of functions (4): the same        2021-01-10
    external addresses                              Google's page of networks (5)                   2026-10-16
    f1-micro, g1-small, GPUs T4, P4, P100, V100     the API's SKUs, as others quote them (6)        undated
    custom images                                   the API's "Storage Image", by Infracost (7)     2021-03-31
    hyperdisk-balanced                              written down; some programs have the same (8)   undated

(1) https://github.com/Cyclenerd/google-cloud-pricing-cost-calculator, commit 0166a59e. The factor of a region is its
    price of one machine type of the series by that of us-central1; vCPUs and memory differ alike.
(2) https://cloud.google.com/compute/disks-image-pricing, its examples. What else it lists could not be read.
(3) https://cloud.google.com/storage/pricing, as api-evangelist/gcp-cloud-storage has transcribed it.
(4) https://cloud.google.com/functions/pricing, as the Internet Archive has it.
(5) https://cloud.google.com/vpc/network-pricing, as ChiefGyk3D/Clouds-Against-Humanity has read it.
(6) "Micro Instance with burstable CPU", "Small Instance with 1 VCPU", "Nvidia Tesla T4 GPU" and so on "running in
    Americas": in tests and notes of several programs that read the API.
(7) https://github.com/infracost/infracost/pull/541, which reads the API.
(8) Others have 0.04 to 0.12 dollars for a GB and month in us-central1, and none says where it was read.

The price of hyperdisk-balanced may be wrong: compare it before a decision depends on it, and pass your own with
`--prices`. Hyperdisk is without the IOPS and the throughput that are paid for beyond what each disk has.

What is not here, and hence unknown: other series (a2 to a4x, c4, c4a, c4d, g2, g4, h3, m1 to m4, n4, z3), custom
machine types, Local SSD, licences, network traffic, NAT, Pub/Sub, Firestore, logs, CPU time of functions, snapshots,
Secret Manager, Cloud KMS. GPUs of Spot VMs count as any other.
"""

from .machine_prices import GPUS, MACHINES, TYPES
from .price_list import PriceList
from .stored_prices import DISKS, OBJECTS

LIST_PRICES = PriceList(
    date="2025-03-06",
    source="Google Cloud's list prices; shared/build/cost/list_prices.py says from where",
    machines=MACHINES,
    types=TYPES,
    gpus=GPUS,
    disks=DISKS,
    storage=OBJECTS,
    image_gb_month=0.05,
    invocation=0.0000004,
    address_hour=0.005,
    spot_address_hour=0.0025,
)
