"""Words that needles are named by: plain English, none a number, none in the filler text."""

_ADJECTIVES = """
amber ancient angry brave bright bronze calm cheerful clever cloudy copper crooked curious
dapper distant dusty eager early elegant fancy fearless frosty gentle giant golden graceful
grand happy hidden hollow humble icy idle ivory jolly keen kind lively lonely lucky marble
mellow mighty misty modest narrow nimble noble patient plain polite proud purple quick quiet
rapid rare restless rustic scarlet secret shiny silent silver simple sleepy slender smooth
solemn steady stormy strong sturdy sunny swift tender tidy tiny velvet vivid wandering warm wild
wise wooden young
"""
_NOUNS = """
acorn anchor antler arrow badger barrel beacon beaver bison bonnet bramble bucket buffalo cactus
camel canyon castle cedar cherry clover comet condor coral cougar crystal daisy dolphin dragon
eagle ember falcon feather fern fiddle flute forest fountain fox garnet geyser glacier goose
granite hammer harbor hawk hazel heron hive hornet island jasmine kettle lagoon lemon leopard
lily lobster lotus magnet maple meadow meteor moose mountain nutmeg olive orchid otter owl
panther parrot pebble pelican pepper pigeon pillow plum pony prairie pumpkin python quarry
rabbit raven reef robin saddle salmon sparrow spruce squirrel summit thistle thunder tiger tulip
tundra turtle valley violin walrus willow zebra
"""

ADJECTIVES: tuple[str, ...] = tuple(_ADJECTIVES.split())
NOUNS: tuple[str, ...] = tuple(_NOUNS.split())
