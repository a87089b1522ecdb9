-- The store's functions run in Lua 5.1 with these globals, and no others.
std = "lua51"
read_globals = {"redis", "cmsgpack", "struct"}
max_line_length = 120
