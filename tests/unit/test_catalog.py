"""How often the cloud is asked for what requests name, and what is remembered of that."""

import asyncio
import uuid
from collections import Counter

import pytest

from vmsvc.domain.catalog import Addresses, Image, Network
from vmsvc.domain.errors import InvalidRequest, NotFound, TooManyRequests
from vmsvc.domain.flavors import Flavor
from vmsvc.domain.timing import Timing
from vmsvc.service.catalog import Catalog

COMMUNITY = str(uuid.uuid4())


class Cloud:
    """What the catalogue asks for; `asked` counts."""

    mode = "tenant"

    def __init__(self):
        self.asked = Counter()
        self.keys, self.left = {"old"}, 3
        self.found = (Image("i", "debian"), Image("queued", "queued", "queued"))

    def __getattr__(self, name):
        async def call(*args):
            self.asked[name] += 1
            await asyncio.sleep(0.01)
            return getattr(self, f"give_{name}")(*args)

        return call

    def give_flavors(self):
        """One."""
        return (Flavor("1", "tiny", 1, 512, 1),)

    def give_images(self):
        """Those that are active."""
        return tuple(image for image in self.found if image.status == "active")

    def give_image(self, image_id):
        """Any, and one that no list shows."""
        if image_id == COMMUNITY:
            return Image(COMMUNITY, "community")
        raise NotFound("no such image")

    def give_networks(self):
        """One."""
        return (Network("n", "net", ("s",)),)

    def give_availability_zones(self):
        """None."""
        return ()

    def give_key_names(self):
        """As they are now."""
        return frozenset(self.keys)

    def give_addresses(self, _network):
        """As they are now."""
        return Addresses(3, 3 - self.left)


@pytest.fixture(name="cloud")
def fixture_cloud():
    """What it offers, and how often it was asked."""
    return Cloud()


@pytest.fixture(name="catalog")
def fixture_catalog(cloud):
    """It has read everything."""
    made = Catalog(cloud, Timing(catalog_reread=0.2), flavor="", image="debian", network="")
    asyncio.run(made.refresh())
    cloud.asked.clear()
    return made


def test_what_is_known_is_not_asked_for(cloud, catalog):
    found = asyncio.run(catalog.resolve(key_name="old"))
    assert (found.flavor.name, found.image.id, found.network.id, found.key_name) == ("tiny", "i", "n", "old")
    assert not cloud.asked


def test_a_key_pair_that_was_made_since_is_found(cloud, catalog):
    cloud.keys.add("new")
    assert asyncio.run(catalog.resolve(key_name="new")).key_name == "new"
    assert cloud.asked == {"key_names": 1}


def test_however_many_names_are_made_up_a_list_is_read_once_in_a_while(cloud, catalog):
    async def ask():
        found = await asyncio.gather(
            *(catalog.resolve(key_name=f"k{number}") for number in range(200)), return_exceptions=True
        )
        assert {type(each) for each in found} == {InvalidRequest} and {each.field for each in found} == {"key_name"}

    asyncio.run(ask())
    assert cloud.asked["key_names"] <= 2


def test_an_image_that_no_list_shows_is_asked_for_once_and_remembered(cloud, catalog):
    for _ in range(3):
        assert asyncio.run(catalog.resolve(image=COMMUNITY)).image.name == "community"
    assert cloud.asked == {"images": 1, "image": 1}


def test_ids_that_are_made_up_are_asked_for_a_few_at_a_time(cloud, catalog):
    async def ask():
        return await asyncio.gather(
            *(catalog.resolve(image=str(uuid.uuid4())) for _ in range(50)), return_exceptions=True
        )

    found = Counter(map(type, asyncio.run(ask())))
    assert found[InvalidRequest] == cloud.asked["image"] <= 12
    assert found[TooManyRequests] == 50 - found[InvalidRequest]
    assert asyncio.run(catalog.resolve()).image.id == "i"


def test_addresses_are_read_once_in_a_while_unless_none_is_left(cloud, catalog):
    async def ask(times):
        return [(await catalog.addresses("n")).free for _ in range(times)]

    assert asyncio.run(ask(5)) == [3] * 5 and cloud.asked["addresses"] == 1
    cloud.left = 0
    asyncio.run(catalog.refresh())
    cloud.left = 1
    assert asyncio.run(ask(1)) == [1], "somebody has given one back since"
