-- Looks whether this Redis is another one than before. Runs before scripts are loaded into a server that does
-- not know them: so no row is claimed on a new server before the recovery has begun.
-- ARGV: lifetime_ms
-- Reply: id of the server; '' where the user may not read it.
-- include: lib/recovery.lua
return note_server(tonumber(ARGV[1]))
