-- osascript export.applescript UUID PATH: copy a stopped machine's .utm folder to PATH.
on run argv
	set theId to item 1 of argv
	set theTarget to POSIX file (item 2 of argv)
	with timeout of 3600 seconds
		tell application "UTM" to export (virtual machine id theId) to theTarget
	end timeout
end run
