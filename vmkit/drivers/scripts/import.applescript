-- osascript import.applescript PATH: copy a .utm folder into UTM's storage; prints the new machine's specifier.
on run argv
	set theBundle to POSIX file (item 1 of argv)
	with timeout of 3600 seconds
		tell application "UTM" to return (import new virtual machine from theBundle)
	end timeout
end run
