# Check if service is running
curl -X GET http://localhost:8108/docs
